output "service" {
  description = "Id and name of the service."
  value = {
    id   = docker_service.model_registry.id
    name = docker_service.model_registry.name
  }
}

output "url" {
  description = "URL inside of the network."
  value       = "http://${local.name}:5000"
}
