/** An error with its causes: the SDKs' own text for a broken connection says nothing more. */
export function describe(error) {
  const texts = [];
  for (let e = error; e; e = e.cause) texts.push(`${e.constructor?.name ?? e.name}: ${e.message || e.code}`);
  return texts.join(" <- ");
}
