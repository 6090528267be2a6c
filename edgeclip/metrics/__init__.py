"""What a run says of itself to Prometheus and to whoever asks whether it is well."""
