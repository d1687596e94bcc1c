output "pull" {
  description = "Address by which engines pull, the first part of an image's name."
  value       = "${var.hostname}:${var.port}"
}

output "push" {
  description = "Address by which the executor pushes."
  value       = local.is_service ? "${var.hostname}:${var.port}" : "${local.name}:${local.inner_port}"
}

output "volume" {
  description = "Name of the volume that holds the images."
  value       = docker_volume.data.name
}
