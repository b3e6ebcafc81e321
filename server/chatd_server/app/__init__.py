"""A server put together: `compose` names the classes, `server` starts and stops them."""
