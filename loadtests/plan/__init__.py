"""What a load run is to send, to whom, and how it is judged: fixed beforehand and read strictly."""
