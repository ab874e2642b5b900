"""Transition: the only code that speaks Redis. One Lua script a state change."""
