variable "image" {
  description = "Image of the object store, by id or digest."
  type        = string
  nullable    = false
}

variable "limits" {
  description = "The most CPU and memory that the object store may use."
  type = object({
    cpus      = optional(number, 1)
    memory_mb = optional(number, 512)
  })
  default  = {}
  nullable = false
}

variable "networks" {
  description = "Network -> id of the networks to join."
  type        = map(string)
  nullable    = false

  validation {
    condition     = toset(keys(var.networks)) == toset(["objects", "s3"])
    error_message = "networks has exactly objects and s3."
  }
}

variable "placement" {
  description = "Swarm placement constraints; a service with a volume has to stay on one node."
  type        = list(string)
  default     = ["node.role==manager"]
  nullable    = false
}

variable "prefix" {
  description = "First part of every name."
  type        = string
  default     = "slipway"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.prefix))
    error_message = "prefix is 2 to 24 lower-case letters, digits and hyphens, begins with a letter, does not end with a hyphen."
  }
}

variable "running" {
  description = "Whether anything runs; false keeps networks, volumes and services and runs no container."
  type        = bool
  default     = true
  nullable    = false
}

variable "secrets" {
  description = "Docker secrets to mount: file name under /run/secrets -> id and name. Values never come here."
  type = map(object({
    id   = string
    name = string
  }))
  nullable = false

  validation {
    condition     = toset(keys(var.secrets)) == toset(["minio-root-password", "minio-root-user"])
    error_message = "secrets has exactly minio-root-password and minio-root-user."
  }
}
