"""The work file's tables and indexes."""

FORMAT = "3"
"""A work file of another format is not gone on with."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ranges (id INTEGER PRIMARY KEY, low INT NOT NULL, high INT NOT NULL, after TEXT,
    reached INT NOT NULL, done INT NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS users (subject_id TEXT PRIMARY KEY, named TEXT, email TEXT, body BLOB NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS customers (customer_id TEXT PRIMARY KEY, owner TEXT, email TEXT, live INT,
    body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS links (subject_id TEXT PRIMARY KEY, customer_id TEXT, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mapping (subject_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS findings (key TEXT PRIMARY KEY, subject_id TEXT, kind TEXT NOT NULL,
    rank INT NOT NULL, subscribed INT NOT NULL, recent INT NOT NULL, person INT NOT NULL, body BLOB NOT NULL)
    WITHOUT ROWID;
"""
# Made when all is read: kept up page by page they would cost far more.
INDEXES_OF_USERS = (
    "CREATE INDEX IF NOT EXISTS ix_users_named ON users (named) WHERE named IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS ix_users_email ON users (email) WHERE email IS NOT NULL",
)
INDEXES = (
    "CREATE INDEX IF NOT EXISTS ix_mapping_customer ON mapping (customer_id)",
    "CREATE INDEX IF NOT EXISTS ix_links_customer ON links (customer_id) WHERE customer_id IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS ix_findings_subject ON findings (subject_id)",
    *INDEXES_OF_USERS,
    "CREATE INDEX IF NOT EXISTS ix_customers_owner ON customers (owner) WHERE owner IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS ix_customers_email ON customers (email) WHERE email IS NOT NULL",
)
