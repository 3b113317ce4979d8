"""Clerk: its webhooks, and the few endpoints of its Backend API that are needed."""
