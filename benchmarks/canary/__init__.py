"""What the canary analysis promises, simulated: false rollbacks, power, sample sizes, beside the rules of others."""
