output "endpoint" {
  description = "URL inside of the networks."
  value       = "http://${local.name}:9000"
}

output "service" {
  description = "Id and name of the service."
  value = {
    id   = module.server.service.id
    name = module.server.service.name
  }
}

output "volume" {
  description = "Name of the volume that holds the objects."
  value       = docker_volume.data.name
}
