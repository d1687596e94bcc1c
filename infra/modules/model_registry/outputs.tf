output "service" {
  description = "Id and name of the service."
  value = {
    id   = module.server.service.id
    name = module.server.service.name
  }
}

output "url" {
  description = "URL inside of the network."
  value       = "http://${local.name}:5000"
}
