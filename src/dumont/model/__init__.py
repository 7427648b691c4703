"""Pure values: what the glossary's words look like in code."""
