// Tables of class "sortable" get sorting headers.

document.querySelectorAll("table.sortable").forEach(sortable);
