"""The standalone server: configuration, composition, admin API and metrics."""
