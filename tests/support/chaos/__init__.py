"""What the chaos suite is made of: jobs of all sorts with the end that each must come to, and things that break."""
