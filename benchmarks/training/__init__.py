"""Our training beside a bare script with TRL's SFTTrainer: the same rows, order, settings and machine."""
