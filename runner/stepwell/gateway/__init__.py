"""The gateway: events in, runs to look at, over HTTP.

`app` puts the routes together, `access` says who may ask, `gate` stands before all of them; `ingest` takes events in, `reads`
answers questions, `acts` changes something; `requests` is what may be asked, `views` are rows as they go over the wire,
`documents` the same for OpenAPI.
"""
