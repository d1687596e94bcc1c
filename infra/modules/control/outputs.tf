output "api_address" {
  description = "Service and port of the API inside of the networks."
  value       = "${module.process["api"].service.name}:8080"
}

output "services" {
  description = "Process -> id and name of its service."
  value       = { for name, process in module.process : name => { id = process.service.id, name = process.service.name } }
}

output "volume" {
  description = "Name of the volume with the home; null where the home is a directory of the node."
  value       = one(docker_volume.home[*].name)
}
