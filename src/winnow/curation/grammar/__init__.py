"""From a caption to its graph of objects, attributes, actions and relations."""
