'use strict';
const open = () => { const d = location.hash.length > 1 && document.getElementById(location.hash.slice(1)); if (d && d.tagName === 'DETAILS') { d.open = true; d.scrollIntoView({ block: 'center' }); } };
addEventListener('hashchange', open); open();
// A story in a closed cell is told when the cell is opened.
const stories = [], later = d => { if (d.open) d.querySelectorAll('article.story:not([data-now])').forEach(s => stories.push(tell(s))); };
document.querySelectorAll('article.story').forEach(s => { const d = s.closest('details'); if (d) { d.addEventListener('toggle', () => later(d)); later(d); } else stories.push(tell(s)); });
// #step-65 or #first-overwritten: the first story begins there.
const [, by, what] = /^#(step|first)-(\w+)$/.exec(location.hash) ?? []; if (by && stories.length) stories[0].go(stories[0].steps.findIndex(s => by === 'step' ? s.n >= +what : s.notes.some(m => m.kind === what)));
function tell(root) {
  const story = JSON.parse(root.querySelector('.data').textContent), steps = story.steps, n = steps.length;
  const at = s => root.querySelector(s), slider = at('input'), cursor = at('.cursor'), say = at('.say'), code = at('.code'), stack = at('.stack'), state = at('.state');
  const make = (tag, cls, text) => { const e = document.createElement(tag); e.className = cls; e.textContent = text; return e; };
  const events = steps.map((s, i) => s.notes.length ? i : -1).filter(i => i >= 0);
  const frames = w => w.by + (['body', 'frame', 'copy', 'entry'].includes(w.by) ? (w.nmi - 1) % 4 + 1 : 0);
  let now = 0, words = [], upto = -1;
  const cells = []; let group = null;
  story.slots.forEach(s => { if (s.stack !== group) { stack.append(make('div', 'g', 'stack ' + s.stack)); group = s.stack; } stack.append(make('div', 'a', s.name)); const c = make('div', 'w', ''); stack.append(c); cells.push(c); });
  function go(i) {
    now = Math.max(0, Math.min(n - 1, i));
    if (now < upto) { words = []; upto = -1; }
    for (; upto < now; upto++) for (const w of steps[upto + 1].writes) { if (w.lost && words[w.slot]) w.was = words[w.slot].value; words[w.slot] = w; }
    const s = steps[now], x = 120 + 930 * (now + .5) / n;
    slider.value = now; slider.setAttribute('aria-valuetext', 'step ' + s.n + ' at ' + s.at); cursor.setAttribute('x1', x); cursor.setAttribute('x2', x);
    let last = now; while (last > 0 && !steps[last].notes.length) last--;
    const notes = steps[last].notes;
    say.textContent = (last === now ? '' : 'Since step ' + steps[last].n + ': ') + notes.map(m => m.text).join(' ');
    say.className = 'say ' + (notes.length ? notes[notes.length - 1].kind : '') + (story.rule ? ' failed' : '');
    const lines = 22, from = Math.max(0, Math.min(n - lines, now - 10));
    code.replaceChildren(...steps.slice(from, from + lines).map((t, k) => { const d = make('div', (from + k === now ? 'on ' : '') + (t.notes.length ? 'ev' : ''), ''); d.append(make('span', 'mut', (t.blocked ? 'B' : '·') + (t.pending ? 'P' : '·') + ' ' + t.depth + '+'.repeat(t.bodies).padEnd(2) + ' ' + t.at.padEnd(30) + ' '), t.text); d.onclick = () => go(from + k); return d; }));
    cells.forEach((c, k) => { const w = words[k]; c.className = 'w' + (w ? ' ' + frames(w) : '') + (s.rsp === k ? ' sp' : '') + (s.consumes.includes(k) ? ' need' : '') + (w && w.lost ? ' lost' : ''); c.textContent = (w ? w.value + (w.was && w.was !== w.value ? ' (was ' + w.was + ')' : '') : '') + (s.rsp === k ? '  ← RSP' : ''); });
    const focus = cells[s.rsp ?? s.consumes[0]]; if (focus) stack.scrollTop = focus.offsetTop - stack.clientHeight / 2;
    state.replaceChildren(...[['step', s.n + ' (' + (now + 1) + ' of ' + n + ')'], ['at', s.at], ['NMIs', (s.blocked ? 'blocked' : 'open') + (s.pending ? ', one pending' : '')], ['depth', s.depth + (s.bodies ? ', ' + s.bodies + (s.bodies > 1 ? ' bodies' : ' body') : '')], ['changes', s.changed || '–']].flatMap(([a, b]) => [make('dt', '', a), make('dd', '', b)]));
    root.dataset.now = now;
  }
  const event = d => d > 0 ? events.find(i => i > now) ?? n - 1 : [...events].reverse().find(i => i < now) ?? 0;
  root.querySelectorAll('[data-go]').forEach(b => b.onclick = () => { const g = b.dataset.go; go(g === 'e' ? event(1) : g === '-e' ? event(-1) : now + +g); });
  root.querySelectorAll('[data-step]').forEach(a => a.onclick = e => { e.preventDefault(); go(+a.dataset.step); slider.focus({ preventScroll: true }); root.querySelector('.lane').scrollIntoView({ block: 'nearest' }); });
  slider.oninput = () => go(+slider.value);
  at('.lane').onclick = e => { const r = at('.lane svg').getBoundingClientRect(); go(Math.floor(((e.clientX - r.left) / r.width * 1060 - 120) / 930 * n)); };
  root.onkeydown = e => { if (e.target.closest('.stack') && e.key.startsWith('ArrowU')) return; const d = { ArrowRight: 1, ArrowLeft: -1 }[e.key]; if (d) { e.preventDefault(); go(e.shiftKey ? event(d) : now + d); } else if (e.key === 'Home' || e.key === 'End') { e.preventDefault(); go(e.key === 'Home' ? 0 : n - 1); } };
  go(events.length > 1 ? events[0] : 0);
  return { go, steps, root, next: () => go(now + 1) };
}
if (stories.length) addEventListener('keydown', e => { if (e.target === document.body) stories[0].root.onkeydown(e); });
