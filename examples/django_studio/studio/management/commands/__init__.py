"""createdemo."""
