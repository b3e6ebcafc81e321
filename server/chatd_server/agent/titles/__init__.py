"""Titles of chats: the first words of a person, or words of a model."""
