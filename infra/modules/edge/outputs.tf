output "config_sha256" {
  description = "Digest of the configuration in the volume, which a reload puts in force."
  value       = local.config_sha256
}

output "container" {
  description = "Name of the plain container; null where the edge is a service."
  value       = local.is_service ? null : local.name
}

output "load_urls" {
  description = "Environment -> slot -> URL that load runs use, each on its environment's load network only."
  value = {
    for name, ports in local.load_ports : name => { for slot, port in ports : slot => "http://${local.name}:${port}" }
  }
}

output "models" {
  description = "Model -> environment -> name of its backend, and the slots' URLs that load runs use, for each further model."
  value = {
    for model, environments in local.load_ports_of_models : model => {
      for name, ports in environments : name => {
        backend   = local.backends[model][name]
        load_urls = { for slot, port in ports : slot => "http://${local.name}:${port}" }
      }
    }
  }
}

output "service" {
  description = "Name of the service; null where the edge is a plain container."
  value       = local.is_service ? local.name : null
}
