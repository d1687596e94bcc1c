output "slots" {
  description = "Slot -> id and name of its service."
  value = merge(
    { live = { id = docker_service.live.id, name = docker_service.live.name } },
    { for slot, service in docker_service.idle : slot => { id = service.id, name = service.name } },
  )
}
