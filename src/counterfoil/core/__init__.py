"""The rules, and nothing else: no IO, no clock, no asyncio, no logging.

`fold` says what news does to a link, `plan` says what a link needs next. Everything round them
(store, engine, clients) only carries out what is decided here.
"""
