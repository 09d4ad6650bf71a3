"""`ddpm bench`: how fast training and sampling are, beside the best that the machine can do and beside other libraries."""
