"""What listens: the receiver of deliveries, and the small local API beside it."""
