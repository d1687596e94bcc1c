output "host" {
  description = "Name inside of the network; the port is 5432."
  value       = local.name
}

output "service" {
  description = "Id and name of the service."
  value = {
    id   = module.server.service.id
    name = module.server.service.name
  }
}

output "volume" {
  description = "Name of the volume that holds the data."
  value       = docker_volume.data.name
}
