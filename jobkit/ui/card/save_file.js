// A file that came as text, for the cards that offer downloads.

/** Hands the browser a file that came as base64, unpacked if it is packed. */
async function saveFile(name, {base64, media_type, packed}) {
  const raw = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  let blob = new Blob([raw], {type: media_type});
  if (packed) blob = await new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))).blob();
  saveBlob(name, new Blob([blob], {type: "application/octet-stream"}));
}
