output "edge_config_sha256" {
  description = "Digest of the edge's configuration; when it changed, a reload puts it in force."
  value       = module.edge.config_sha256
}

output "stack" {
  description = "Names and addresses of this installation; the executor reads the same from a file."
  value       = local.stack
}
