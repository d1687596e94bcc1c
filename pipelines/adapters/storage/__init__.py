"""Where bytes are kept: bundles, data, the audit chain's checkpoints."""
