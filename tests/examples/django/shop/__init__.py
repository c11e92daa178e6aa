"""A small shop for many tenants with Django, behind pgvpd. docs/django.md explains it."""
