"""Clients of platforms that several ports share; nothing here knows a port."""
