"""The running stack: onto the reference's scale, tested, accumulated, on a canvas that may grow."""
