"""What the product is compared with: own code, as small as it can be."""
