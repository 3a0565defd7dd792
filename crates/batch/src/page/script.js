(() => {
  'use strict';
  const table = document.getElementById('images');
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const text = rows.map((row) => (row.textContent + ' ' + row.dataset.words).toLowerCase());
  const box = document.getElementById('filter');
  const result = document.getElementById('result');
  const shown = document.getElementById('shown');
  let sorted = '';

  // A word that begins with "-" must not be there.
  const apply = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter((word) => word && word !== '-');
    const want = result.value;
    let count = 0;
    rows.forEach((row, at) => {
      const fits = (!want || row.dataset.result === want) && words.every((word) =>
        word.startsWith('-') ? !text[at].includes(word.slice(1)) : text[at].includes(word));
      row.hidden = !fits;
      count += fits ? 1 : 0;
    });
    shown.textContent = count + ' of ' + rows.length + ' images';
  };

  const heads = Array.from(table.tHead.rows[0].cells);
  const sort = (name, descending) => {
    const column = heads.findIndex((head) => head.dataset.sort === name);
    if (column < 0) return;
    const key = (row) => row.cells[column].dataset.value || '';
    const isNumber = heads[column].dataset.kind === 'number';
    const order = rows.map((row, at) => [isNumber ? Number(key(row)) : key(row), at]);
    order.sort(([one, at], [other, to]) => (one < other ? -1 : one > other ? 1 : at - to));
    if (descending) order.reverse();
    const all = document.createDocumentFragment();
    order.forEach(([, at]) => all.append(rows[at]));
    body.append(all);
    heads.forEach((head) => head.removeAttribute('aria-sort'));
    heads[column].setAttribute('aria-sort', descending ? 'descending' : 'ascending');
    sorted = (descending ? '-' : '') + name;
  };

  const remember = () => {
    const state = new URLSearchParams();
    if (box.value) state.set('filter', box.value);
    if (result.value) state.set('result', result.value);
    if (sorted) state.set('sort', sorted);
    history.replaceState(null, '', '#' + state);
  };
  const recall = () => {
    const state = new URLSearchParams(location.hash.slice(1));
    box.value = state.get('filter') || '';
    result.value = state.get('result') || '';
    const by = state.get('sort') || '';
    if (by) sort(by.replace(/^-/, ''), by.startsWith('-'));
    apply();
  };

  heads.filter((head) => head.dataset.sort).forEach((head) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = head.textContent;
    button.addEventListener('click', () => {
      sort(head.dataset.sort, head.getAttribute('aria-sort') === 'ascending');
      remember();
    });
    head.replaceChildren(button);
  });
  [box, result].forEach((control) => control.addEventListener('input', () => { apply(); remember(); }));
  addEventListener('hashchange', recall);
  document.getElementById('controls').hidden = false;
  recall();
})();
