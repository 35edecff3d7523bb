"""The program that supervises: a FastAPI application that owns the proxy."""
