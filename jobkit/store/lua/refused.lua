-- Returns why the server takes no changes just now, in its own words, or "".
return refusal()
