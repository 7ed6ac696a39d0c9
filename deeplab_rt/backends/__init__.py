"""One network evaluation on one device: each module meets the protocol in :mod:`.base`."""
