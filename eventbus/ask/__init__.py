"""Asking and being answered: a request is an event with a private topic for answers, to which each answer is one message.

`asker` sends requests and hands answers to those who wait; `inbox` receives them; `answering` makes handlers answer;
`wire.requests` says what travels.
"""
