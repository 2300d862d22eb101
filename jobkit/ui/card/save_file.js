// A file that came as text, for the cards that offer downloads.

/** Hands the browser a file that came as base64. */
async function saveFile(name, told) { saveBlob(name, new Blob([await unpacked(told).blob()], {type: "application/octet-stream"})); }

/** The text of such a file. */
const textOf = (told) => unpacked(told).text();

function unpacked({base64, media_type, packed}) {
  const blob = new Blob([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], {type: media_type});
  return new Response(packed ? blob.stream().pipeThrough(new DecompressionStream("gzip")) : blob);
}
