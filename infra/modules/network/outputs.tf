output "networks" {
  description = "Network -> id, name and subnet."
  value = {
    for name, network in docker_network.network : name => {
      id     = network.id
      name   = network.name
      subnet = one(data.docker_network.network[name].ipam_config[*].subnet)
    }
  }
}
