"""What stands between us and an upstream's API: its quota, its breaker, and the gate that asks both."""
