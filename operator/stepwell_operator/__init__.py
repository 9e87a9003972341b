"""The operator: from `DurableFunction` objects to runner Deployments, gateways, wells and truthful statuses."""
