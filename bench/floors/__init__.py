"""What the product is compared with: purpose-built code, as small as possible."""
