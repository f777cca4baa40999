// The address of a closer look, and a button that copies it. data: drawing, its id; theme, "light" or "dark".

export default function ({ data, parentElement }) {
  const [root, field, button] = [".copy", "input", "button"].map((name) => parentElement.querySelector(name));
  root.style.colorScheme = data.theme;
  field.value = `${location.origin}${location.pathname}?drawing=${data.drawing}`;
  button.onclick = async () => {
    field.select();
    // On plain HTTP browsers give scripts no clipboard; what is selected can be copied all the same.
    const copied = window.isSecureContext
      ? await navigator.clipboard.writeText(field.value).then(() => true, () => document.execCommand("copy"))
      : document.execCommand("copy");
    button.textContent = copied ? "Copied" : "Copy what is selected";
    if (copied) button.focus(); // selecting took the focus away
  };
}
