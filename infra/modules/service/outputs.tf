output "service" {
  description = "The service with all that Terraform knows of it, such as id, name and task_spec."
  value       = docker_service.service
}
