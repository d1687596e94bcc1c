"""Where bytes are kept: bundles, data, the outside copies of the audit chain's heads."""
