//! `pgveil.yaml` → [`Config`].
