"""Nothing comes before ch02_text_data: the course's code begins in this folder's notebook."""
