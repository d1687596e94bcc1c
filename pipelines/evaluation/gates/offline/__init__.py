"""What gates measure without a running service: bundles asked as the service is, on frozen rows."""
