"""What a person looks at: what stores hold, and previews of them."""
