//! MBR with logical partitions and GPT, both copies validated.
