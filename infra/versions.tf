terraform {
  required_version = ">= 1.11"

  # Where the state file is belongs to an installation:
  # terraform init -backend-config=path=<home>/terraform/terraform.tfstate
  backend "local" {}

  required_providers {
    docker = {
      source  = "kreuzwerker/docker"
      version = "~> 4.6"
    }
  }
}
