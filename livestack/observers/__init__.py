"""What looks on while frames are stacked, and never changes what is stacked."""
